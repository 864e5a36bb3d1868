/*!40101 SET NAMES binary*/;
/*!40014 SET FOREIGN_KEY_CHECKS=0*/;
/*!40103 SET TIME_ZONE='+00:00' */;
INSERT INTO `allt` (`id`,`ti`,`mi`,`b`,`de`,`f`,`d`,`da`,`tm`,`t0`,`dt`,`ts`,`yr`,`c`,`cl`,`tx`,`lt`,`bn`,`vb`,`bl`,`e`,`s`,`js`,`_rb_x`) VALUES
(1,-5,NULL,NULL,-12.50000,16777200,1e308,"2024-00-00","-00:00:01.500","-838:59:59","2024-01-01 10:00:00.500000","2024-01-01 10:00:00.50",1999,"a","é€","NULL","x\0\Zy\'\"\n\r	\\","\0ÿ\0\0\0","\0","ÿ\'\"\\","a","x,Ã¤","{\"a\":1.0}",NULL),
(2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,"00:00:00.001",NULL,NULL,"0000-00-00 00:00:00.00",0000,"",NULL,NULL,NULL,NULL,NULL,NULL,"","","null",NULL),
(3,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
